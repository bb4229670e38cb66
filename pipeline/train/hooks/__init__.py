"""What happens beside training: each hook is told of every step and sees nothing but its record."""
