from hypothesis import settings

# A shared machine stalls now and then; a slow example is not a wrong one.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
