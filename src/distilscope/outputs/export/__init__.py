"""Ways out of a finished run: the teacher's data and the students, as other tools read them."""
