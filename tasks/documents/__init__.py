"""Read documents as text for a model: PDF, DOCX, HTML and plain text.

Imports config and contract. Start with reader.py.
"""

from tasks.documents.reader import ENDINGS, Document, read_document, read_documents

__all__ = ["ENDINGS", "Document", "read_document", "read_documents"]
