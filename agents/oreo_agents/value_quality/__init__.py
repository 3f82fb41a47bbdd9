"""How good a value network is: V along episodes, figures with intervals, pictures, a page of steps in colour."""
