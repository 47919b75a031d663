"""Prompts as files: templates of the configuration, filled in where a model is asked.

What reads and compiles them stands in `tasks.prompts.files` and `tasks.prompts.sandbox`, which need Jinja2: few
processes have any.
"""

from tasks.prompts.render import PREFIX, VARIABLES, Prompt, check_prompt, check_prompts, prompts_in, render, source_of

__all__ = ["PREFIX", "VARIABLES", "Prompt", "check_prompt", "check_prompts", "prompts_in", "render", "source_of"]
