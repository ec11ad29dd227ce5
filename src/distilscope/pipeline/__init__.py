"""Steps of work, the store of their artifacts, and the engines that run them. No machine learning in it."""
