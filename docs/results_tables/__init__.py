"""The tables of the documents, by room."""
