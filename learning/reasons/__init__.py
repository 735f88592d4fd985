"""Why a model says what it says: what it rests on, what each feature adds to one answer, what would change it."""
