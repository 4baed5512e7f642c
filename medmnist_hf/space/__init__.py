"""The Space of MedMNIST: a static page with a gallery, the leaderboards and atlases of features."""
