"""Serving: a checkpoint behind the completion API that OpenAI's clients speak. Starlette and uvicorn: extra `serve`."""
