"""2,000 plausible rooms around London, the four of the book, and a member of staff who may do everything."""

from rooms.seeding import City, many_rooms, skewed, staff_user
from scenarios import book_rooms

BOROUGHS = [
    City("Westminster", 51.5110, -0.1340, weight=6, radius=1.5),
    City("Camden", 51.5450, -0.1500, weight=5, radius=2),
    City("Hackney", 51.5450, -0.0553, weight=5, radius=2),
    City("Southwark", 51.4890, -0.0830, weight=4, radius=2),
    City("Greenwich", 51.4769, 0.0150, weight=2, radius=2),
    City("Richmond", 51.4613, -0.3037, weight=2, radius=2),
    City("Croydon", 51.3762, -0.0982, weight=1, radius=2.5),
    City("Watford", 51.6565, -0.3903, weight=1, radius=2),
]

EXPECT = {
    "": 2004,
    "bbox=-0.9,51.1,0.5,51.9": 2004,
}


def run() -> None:
    many_rooms(2000, cities=BOROUGHS, price=skewed(75, 0.5), size=skewed(28, 0.45), missing_sizes=0.08)
    book_rooms.run()  # the examples of the documents are about them
    staff_user("demo", superuser=True)
