"""What a new column takes: test_recipe.py adds one to a copy of the project, where floor.py tries it."""
