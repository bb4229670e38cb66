"""What is done to a document's text, and the rules that drop it with a reason."""
