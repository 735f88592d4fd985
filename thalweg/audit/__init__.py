"""Bystanders: do the books balance, also when somebody hurts the stack?"""
