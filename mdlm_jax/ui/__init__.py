"""What people look at while a model writes; reads frames, knows no network."""
