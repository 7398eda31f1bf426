"""Actions by kind: requests to the engine, editing, navigation, playback, copying; and notifications"""
