"""Prompts as files: templates of the configuration, filled in where a model is asked."""

from tasks.prompts.files import PromptFile, read_folder
from tasks.prompts.render import PREFIX, VARIABLES, Prompt, check_prompt, check_prompts, render, source_of
from tasks.prompts.sandbox import Expression, Template, compile_expression, compile_template

__all__ = [
    "PREFIX",
    "VARIABLES",
    "Expression",
    "Prompt",
    "PromptFile",
    "Template",
    "check_prompt",
    "check_prompts",
    "compile_expression",
    "compile_template",
    "read_folder",
    "render",
    "source_of",
]
