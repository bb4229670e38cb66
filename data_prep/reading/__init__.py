"""The first phase: from files to cleaned, filtered documents, and what is lost on the way."""
