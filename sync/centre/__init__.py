"""The centre's side: who may be obeyed, what is merged, what may be forgotten."""
