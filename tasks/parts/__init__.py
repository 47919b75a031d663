"""What a job's parts are: cut, proposed by a model, or jobs of their own. Pure."""
