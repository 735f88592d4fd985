"""Many batches of the place job with days passing meanwhile: what grows?"""
