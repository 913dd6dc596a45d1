"""A bundle inside Flask: BUNDLE=runs/churn/latest/bundle flask --app examples/flask_service.py run"""

import os

from flask import Flask, request

import keepfit as kf

app = Flask(__name__)
model = kf.load(os.environ["BUNDLE"])


@app.post("/predict")
def predict():
    answer = model.predict([request.get_json()["input"]])
    return {"prediction": answer.labels[0], "error": answer.errors[0]}
