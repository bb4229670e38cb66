"""What a job is asked to do: frozen pydantic classes, and the one function that reads them from YAML."""
