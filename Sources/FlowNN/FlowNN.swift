// The first source of this target replaces this file.
