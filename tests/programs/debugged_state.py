"""State that changes: a global, an attribute, an item."""


class Box:
    def __init__(self):
        self.value = 0
        self.items = {}

    @property
    def twice(self):
        return 2 * self.value


counter = 0
box = Box()


def bump(by):
    global counter
    counter += by


def fill(box, number):
    box.value = number
    box.items[number % 2] = number * number


def show(wide, many):
    return len(wide) + len(many)


for number in range(1, 4):
    bump(number)
    fill(box, number)
    fill(Box(), 100)
print(counter, box.value, box.items, show(list(range(5000)), {key: 255 for key in range(3000)}))
