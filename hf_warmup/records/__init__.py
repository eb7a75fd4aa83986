"""What is reported is first stored: files that are whole or not there, and where a run was made."""
