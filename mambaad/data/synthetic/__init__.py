"""The synthetic set: `generate` writes it, `scenes` are its four categories, `drawing` is what they are drawn with."""
