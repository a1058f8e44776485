"""What this machine has of what relope needs: each finding says what to do."""
