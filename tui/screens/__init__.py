"""The screens, and the cards in front of them"""
