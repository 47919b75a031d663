"""Documents that a job brings, as text that a model can read: PDF, DOCX, HTML, and what is text already."""

from tasks.documents.reader import ENDINGS, Document, read_document, read_documents

__all__ = ["ENDINGS", "Document", "read_document", "read_documents"]
