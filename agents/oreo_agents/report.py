"""stub"""
def report(*a): print(*a)
