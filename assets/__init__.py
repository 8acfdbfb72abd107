"""The graph: what stands in the Dagster UI and behind the command line. The only room that imports dagster."""
