def fail() -> None:
    raise ValueError("no such luck")


fail()
