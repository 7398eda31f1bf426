"""What a person does: commands to the engine, editing, navigation, and what is told beyond the screen."""
