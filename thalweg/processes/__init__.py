"""Child processes: started on a leash, kept running, ended in order."""
