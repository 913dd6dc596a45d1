"""A Keras model of one's own for pictures: channels last, raw scores at the end (no softmax)."""

import keras
from keras import layers


def small_cnn(input_shape, classes):
    return keras.Sequential(
        [
            keras.Input(input_shape),  # (height, width, channels)
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(classes),
        ]
    )
