"""What exists: the Tortoise models and the rules that belong to them."""
