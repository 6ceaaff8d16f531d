"""What events mean together: which commit a deployment brought, which failures it caused."""
