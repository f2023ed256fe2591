"""What is measured in a child: each probe subscribes to the events it needs and hands its record to the writer."""
