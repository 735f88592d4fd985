"""Mistakes put into the product one at a time: which of them would a test notice?"""
