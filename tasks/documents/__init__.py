"""Documents that a job brings, as text that a model can read: PDF, DOCX, HTML, and what is text already."""

from tasks.documents.job_files import read_files, with_files
from tasks.documents.reading import ENDINGS, Document, read, read_all

__all__ = ["ENDINGS", "Document", "read", "read_all", "read_files", "with_files"]
