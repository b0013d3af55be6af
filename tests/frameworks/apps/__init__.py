"""The same small application in several frameworks; ``contract`` says what each must answer."""
