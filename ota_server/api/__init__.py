"""HTTP: parses requests into the operations' types, and their answers into documents."""
