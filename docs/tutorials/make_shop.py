"""Writes shop.csv: 800 made-up customers of a shop, with the untidiness of a real table."""

import csv
import datetime as dt
import random

rng = random.Random(7)
with open("shop.csv", "w", newline="", encoding="utf-8") as file:
    out = csv.writer(file)
    out.writerow(["customer_id", "since", "country", "plan", "visits", "spent", "left"])
    for number in range(800):
        since = dt.date(2021, 1, 1) + dt.timedelta(days=rng.randrange(1500))
        country = rng.choice(["FR", "DE", "DE", "CN", "BR"])
        plan = rng.choice(["basic", "basic", "plus", " plus"])
        visits = max(0, round(rng.gauss(12, 6)))
        spent = round(max(0.0, rng.gauss(9 * visits, 30)), 2)
        odds = 0.9 - 0.06 * visits - 0.3 * (plan.strip() == "plus") + 0.2 * (country == "BR")
        left = "yes" if rng.random() < odds else "no"
        shown = "?" if rng.random() < 0.05 else spent
        out.writerow([f"C{number:05d}", since, country if rng.random() > 0.03 else "", plan, visits, shown, left])
