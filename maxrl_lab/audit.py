"""Which objective does an advantage function optimise?"""
