"""The client libraries of applications: submit and follow tasks, read and write shared records."""
