"""What `federate` decides: records judged, rounds opened and closed, facts committed and told; and their tables."""
