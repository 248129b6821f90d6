"""Disturbed pairs with a known answer: does a registration still find the way?"""
