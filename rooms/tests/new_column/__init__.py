"""What a new column takes, tried on a copy of the project: test_recipe.py makes the copy, floor.py tries it."""
