"""The harness: records, sessions, researchers, the lab and the engine. It knows no screen."""
