"""Never twice: tasks are pure functions, known by a key, and what a finished one left is used again."""
