"""ALFWorld's household games: a direct engine, the stock engine as an option, the environment.

Importing the package loads neither games nor textworld.
"""
