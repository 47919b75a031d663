"""The parts of a job: splits, votes, joins and their limits. Pure, except that `job_files` reads documents.

Imports routing, documents, config, contract. Start with split/ and joins/.
"""
