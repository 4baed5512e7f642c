"""The methods by which a model is made to predict a subset's labels."""
